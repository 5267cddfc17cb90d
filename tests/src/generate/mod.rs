//! Random policies, databases and frames from a seed.
