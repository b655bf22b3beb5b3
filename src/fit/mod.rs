//! Questions asked of hardware: what fits on it, and the smallest that holds a workload.
