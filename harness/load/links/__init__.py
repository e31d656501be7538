"""Links: one user's connection to a server, and what goes over it, by protocol and by sender."""
