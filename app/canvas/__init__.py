"""The image canvas: geometry, rendering, tools and the widget."""
