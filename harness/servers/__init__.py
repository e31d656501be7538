"""Serve: embedded, container, remote; control plane; telemetry. The only importer of Docker."""
