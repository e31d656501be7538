"""A server in a container of Docker or Podman."""
