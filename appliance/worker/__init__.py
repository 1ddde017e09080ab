"""What front-ends, engines and the supervisor share: connections, routing, the engine process and its supervision."""
