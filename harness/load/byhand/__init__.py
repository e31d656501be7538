"""By hand: what a Locust file needs to load a running Triton, and the run that it leaves."""
