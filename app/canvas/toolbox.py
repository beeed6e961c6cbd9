"""Every tool by its name, as the toolbar and `CanvasView.set_tool` know it."""

from __future__ import annotations

from app.canvas.draw_tools import EllipseTool, FreehandTool, LineTool, PolygonTool, RectangleTool
from app.canvas.tools import MagnifyTool, PanTool, SelectTool, Tool, WindowTool, ZoomTool

TOOLS: dict[str, type[Tool]] = {
    tool.name: tool
    for tool in (
        WindowTool,
        PanTool,
        ZoomTool,
        MagnifyTool,
        SelectTool,
        RectangleTool,
        EllipseTool,
        PolygonTool,
        FreehandTool,
        LineTool,
    )
}
