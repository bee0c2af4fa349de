"""A SIP/RTP relay for voice that stays in one legal region."""

__version__ = "0.1.0"
