"""Shell: the native media engine, its UDP ports, and the WebRTC legs on them."""
