"""One scenario, once: fixture, setup, armed workload, recovery, checks, verdict. Imports every room below it."""
