"""Export: config.pbtxt, backends, parity with the reference."""
