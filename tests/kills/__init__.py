"""inject, killed by SIGKILL at its system calls one after the other, and what stays: nothing may."""
