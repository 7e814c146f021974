"""Load tests: asks a gateway, or anything that speaks its protocol, and tells what its clients would have seen."""
