"""The page of a sweep in Debian's chromium, headless: `make browser-test`."""
