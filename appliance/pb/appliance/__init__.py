"""Made by scripts/gen_protos; do not edit."""
