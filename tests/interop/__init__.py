"""Against the software of others: SIPp, Kamailio, baresip, pjsua2. Each really runs."""
