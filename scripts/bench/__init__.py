"""Load generators and comparisons behind scripts/bench_oip and scripts/bench_llm."""
