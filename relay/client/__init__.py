"""Voice client SDK: register, call, answer, play and record, on aiortc."""
