"""What the window shows, without Qt: evented models that views, panels and tests share."""
