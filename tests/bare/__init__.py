"""inject on a bare machine: a guest of Debian's kernel that has nothing of inject but what a user installs."""
