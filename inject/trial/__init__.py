"""One scenario, once: fixture, setup, armed workload, recovery, checks, verdict. Imports every directory below it."""
