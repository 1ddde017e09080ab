"""The front-end process: gRPC in, frames to the engines out."""
