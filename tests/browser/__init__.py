"""Real browsers: headless Chromium with a microphone that speaks, on the pages of web/."""
