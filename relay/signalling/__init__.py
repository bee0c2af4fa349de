"""Shell: SIP over UDP and TCP sockets."""
