"""Dialogs of the window. Each asks or tells one thing and knows no worker."""
