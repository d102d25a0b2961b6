"""Which lines of the kernel ran: gcov's counters, error lines, lcov tracefiles. Imports errors, store and model."""
