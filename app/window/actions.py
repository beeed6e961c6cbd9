"""Every command of the window in one table: menus, toolbar, shortcuts and the page of keys are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu

from app.icons import icon
from app.theme import Tokens


@dataclass(frozen=True)
class Command:
    """key: name in code. shortcut: bound by the window; shown_key: bound by the canvas, only shown.
    group: commands of one group exclude each other (tools, arrangements)."""

    key: str
    menu: str
    text: str
    icon: str = ""
    shortcut: str = ""
    shown_key: str = ""
    tip: str = ""
    group: str = ""


COMMANDS = (
    Command("open", "File", "Open …", "open", "Ctrl+O", tip="Open radiographs"),
    Command("open_folder", "File", "Open folder …", "folder", "Ctrl+Shift+O"),
    Command("reopen", "File", "Reopen analysis folder …", "", "Ctrl+R", tip="Image, maps, cards and regions of a folder that was saved here or by analyze"),
    Command("sample", "File", "Open a synthetic sample"),
    Command("-", "File", ""),
    Command("report", "File", "Report …", "report", "Ctrl+P", tip="Write a PDF report"),
    Command("picture", "File", "Save picture …", "picture", "Ctrl+E", tip="Save the picture as it is shown"),
    Command("analysis", "File", "Save analysis folder …", "", "Ctrl+S"),
    Command("-", "File", ""),
    Command("close_study", "File", "Close this image", "", "Ctrl+W"),
    Command("preferences", "File", "Preferences …", "settings", "Ctrl+,"),
    Command("quit", "File", "Quit", "", "Ctrl+Q"),
    Command("undo", "Edit", "Undo", "undo", "Ctrl+Z"),
    Command("redo", "Edit", "Redo", "redo", "Ctrl+Y"),
    Command("delete", "Edit", "Delete region", "", shown_key="Del"),
    Command("-", "Edit", ""),
    Command("put_right", "Edit", "Put the image right", tip="Read a refused image inverted or turned, as the model offers"),
    Command("as_stored", "Edit", "Image as in the file", tip="Undo putting the image right"),
    Command("window", "Tools", "Window / level", "window", "W", tip="Drag: across for width, up and down for level", group="tool"),
    Command("pan", "Tools", "Pan", "pan", "P", group="tool"),
    Command("zoom", "Tools", "Zoom", "zoom", "Z", group="tool"),
    Command("magnify", "Tools", "Magnify", "magnify", "M", tip="A loupe under the cursor", group="tool"),
    Command("select", "Tools", "Select regions", "select", "S", group="tool"),
    Command("rectangle", "Tools", "Rectangle", "rectangle", "", group="tool"),
    Command("ellipse", "Tools", "Ellipse", "ellipse", "", group="tool"),
    Command("polygon", "Tools", "Polygon", "polygon", "", tip="Click the corners, double-click to close", group="tool"),
    Command("freehand", "Tools", "Freehand", "freehand", "", group="tool"),
    Command("line", "Tools", "Length", "line", "D", tip="Drag from end to end; Shift keeps it level or upright", group="tool"),
    Command("fit", "View", "Fit", "fit", shown_key="="),
    Command("actual", "View", "One pixel to one pixel", "one-to-one", shown_key="0"),
    Command("invert", "View", "Invert", "invert", shown_key="I"),
    Command("rotate_right", "View", "Rotate right", "rotate-right", shown_key="R"),
    Command("rotate_left", "View", "Rotate left", "rotate-left", shown_key="L"),
    Command("flip_h", "View", "Flip horizontally", "flip-horizontal", shown_key="H"),
    Command("flip_v", "View", "Flip vertically", "flip-vertical", shown_key="V"),
    Command("reset", "View", "Reset", "reset", shown_key="Space"),
    Command("hide", "View", "Only the radiograph", "hide", shown_key=".", tip="Hide everything that is not the radiograph"),
    Command("-", "View", ""),
    Command("compare", "View", "Compare maps", "compare-maps", "C", tip="Every map in a view of its own, with linked zoom and window"),
    Command("one", "View", "One view", "single", "Ctrl+1", group="views"),
    Command("two", "View", "Two views: plain and maps", "compare", "Ctrl+2", group="views"),
    Command("four", "View", "Four views: plain and single maps", "compare-four", "Ctrl+4", group="views"),
    Command("six", "View", "Six views", "compare-six", "Ctrl+6", group="views"),
    Command("nine", "View", "Nine views", "compare-nine", "Ctrl+9", group="views"),
    Command("-", "View", ""),
    Command("next", "View", "Next image", "", "PgDown"),
    Command("previous", "View", "Previous image", "", "PgUp"),
    Command("quick", "Explain", "Quick maps", "", "Ctrl+Shift+Return"),
    Command("standard", "Explain", "Standard maps", "explain", "Ctrl+Return"),
    Command("audit", "Explain", "Audit maps", ""),
    Command("-", "Explain", ""),
    Command("trust", "Explain", "How far can the maps be trusted?", "", "T"),
    Command("hide_maps", "Explain", "Hide or show all maps", "", "Ctrl+H"),
    Command("shortcuts", "Help", "Keys", "", "F1"),
    Command("about", "Help", "About Radiolucent"),
)  # fmt: skip

PRESET_KEYS = "1 – 9"


class Commands:
    """The QActions by key, tinted anew when the theme changes."""

    def __init__(
        self, window: QMainWindow, handlers: Mapping[str, Callable[[], object]], tokens: Tokens
    ) -> None:
        self.actions: dict[str, QAction] = {}
        self.menus: dict[str, QMenu] = {}
        groups: dict[str, QActionGroup] = {}
        for command in COMMANDS:
            if command.menu not in self.menus:
                self.menus[command.menu] = window.menuBar().addMenu(f"&{command.menu}")
            menu = self.menus[command.menu]
            if command.key == "-":
                menu.addSeparator()
                continue
            action = QAction(command.text, window)
            if command.shortcut:
                action.setShortcut(QKeySequence(command.shortcut))
            key = command.shown_key or QKeySequence(command.shortcut).toString(
                QKeySequence.SequenceFormat.NativeText
            )
            action.setToolTip((command.tip or command.text.rstrip(" …")) + (f"  ({key})" if key else ""))
            if command.shown_key:
                action.setText(f"{command.text}\t{command.shown_key}")
            action.setIconText(command.text.rstrip(" …"))
            if command.group:
                action.setCheckable(True)
                if command.group not in groups:
                    groups[command.group] = QActionGroup(window)
                groups[command.group].addAction(action)
            action.triggered.connect(lambda _checked=False, k=command.key: handlers[k]())
            menu.addAction(action)
            self.actions[command.key] = action
        self.tint(tokens)

    def tint(self, tokens: Tokens) -> None:
        for command in COMMANDS:
            if command.icon:
                self.actions[command.key].setIcon(icon(command.icon, tokens))

    def keys(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Menu -> (key, meaning), for the page of keys."""
        pages: dict[str, list[tuple[str, str]]] = {}
        for command in COMMANDS:
            if command.key == "-":
                continue
            key = command.shown_key or self.actions[command.key].shortcut().toString(
                QKeySequence.SequenceFormat.NativeText
            )
            if key:
                pages.setdefault(command.menu, []).append((key, command.text.rstrip(" …")))
        pages.setdefault("View", []).append(
            (PRESET_KEYS, "Window presets: the file's own, full range, automatic")
        )
        pages["View"] += [
            ("+  −", "Zoom in, zoom out"),
            ("Arrows", "Pan, or move the selected region; with Shift: faster"),
        ]
        pages["Edit"].append(("Backspace", "Delete region"))
        pages["Tools"].append(("Return", "Close a polygon"))
        copy = QKeySequence(QKeySequence.StandardKey.Copy).toString(QKeySequence.SequenceFormat.NativeText)
        pages["Mouse"] = [
            ("Left drag", "The chosen tool; with Shift a rectangle becomes a square, an ellipse a circle"),
            ("Double click", "Close a polygon"),
            ("Middle drag", "Pan"),
            ("Right drag", "Zoom"),
            ("Wheel", "Zoom at the cursor"),
        ]
        pages["Lists"] = [
            ("Return", "Studies: show the image"),
            ("Del", "Studies: take the image off the list; regions: delete the region"),
            ("F2", "Regions: rename"),
            (copy, "Regions and tags: copy for a spreadsheet"),
        ]
        pages["Everywhere"] = [
            ("Tab", "To the next control, from top to bottom; with Shift: back"),
            ("Esc", "Cancel drawing, close the message"),
        ]
        return list(pages.items())
