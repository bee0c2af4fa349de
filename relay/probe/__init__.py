"""The probe: SIP endpoints and listening tools for the demo and the tests (extra `probe`).

The server never imports it.
"""
