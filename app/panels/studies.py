"""The list of studies: thumbnail, name, status, score; with a search field and two orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QFontMetrics, QImage, QKeyEvent, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLineEdit,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen, no_collection
from app.icons import pixmap
from app.model.studies import Status, Study, StudyList
from app.panels.text import plain_label, tip
from app.theme import current_tokens
from xai_engine.evidence import format

_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()
_STUDY = int(Qt.ItemDataRole.UserRole)
_SEARCH = _STUDY + 1
_PRIORITY = _STUDY + 2

WORDS = {
    "waiting": "waiting",
    "reading": "opening …",
    "unread": "unread",
    "read": "read",
    "refused": "refused",
    "error": "cannot be opened",
}
_ICONS = {
    "waiting": "waiting",
    "reading": "waiting",
    "unread": "unread",
    "read": "check",
    "refused": "refused",
    "error": "error",
}


def name(study: Study) -> str:
    """The patient's name as people write it; a file name, which is there before reading, unchanged."""
    return format.person_name(study.title) if study.title != study.path.name else study.title


def two_lines(text: str, width: int, metrics: QFontMetrics) -> list[str]:
    """`text` on one line or two of `width` pixels, broken where words end, or anywhere; the second may be elided."""
    if metrics.horizontalAdvance(text) <= width:
        return [text]
    fits = next((n for n in range(len(text), 1, -1) if metrics.horizontalAdvance(text[:n]) <= width), 1)
    ends = [n for n in range(fits, fits // 3, -1) if text[n - 1] in " _-.,"]
    cut = ends[0] if ends else fits
    return [text[:cut].rstrip(), metrics.elidedText(text[cut:].lstrip(), Qt.TextElideMode.ElideMiddle, width)]


class StudyModel(QAbstractListModel):
    """Rows: studies in the order of opening."""

    def __init__(self, studies: StudyList, parent: QWidget) -> None:
        super().__init__(parent)
        self._list = studies
        self._shown = studies.studies
        self.hide_scores = False
        listen(studies.changed, self._changed)

    def _changed(self, what: str, path: Path | None) -> None:
        if what == "list":
            self.beginResetModel()
            self._shown = self._list.studies
            self.endResetModel()
            return
        self._shown = self._list.studies
        for row, study in enumerate(self._shown):
            if study.path == path:
                index = self.index(row)
                self.dataChanged.emit(index, index)

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._shown)

    def row_of(self, path: Path | None) -> int:
        return next((row for row, study in enumerate(self._shown) if study.path == path), -1)

    def is_current(self, study: Study) -> bool:
        return study.path == self._list.current

    def state(self, study: Study) -> Status:
        """In blind reading a refusal, which is the AI's word too, looks like any image not read yet."""
        return "unread" if self.hide_scores and study.status == "refused" else study.status

    def status(self, study: Study) -> str:
        """ "read · 0.874"; without the score in blind reading."""
        words = WORDS[self.state(study)]
        if study.probability is None or self.hide_scores:
            return words
        return f"{words} · {format.probability(study.probability)}"

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        study = self._shown[index.row()]
        if role == _STUDY:
            return study
        if role in (_SEARCH, Qt.ItemDataRole.DisplayRole):
            return f"{name(study)} {study.subtitle} {study.path.name} {WORDS[self.state(study)]}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return ", ".join(part for part in (name(study), study.subtitle, self.status(study)) if part)
        if role == Qt.ItemDataRole.ToolTipRole:
            note = study.note if self.state(study) == study.status else ""
            return tip("\n".join(line for line in (str(study.path), note) if line))
        if role == _PRIORITY:  # the surest finding first, what waits or failed last
            return -1.0 if study.probability is None or self.hide_scores else study.probability
        return None


class _Order(QSortFilterProxyModel):
    """Ascending: the highest score first; equal ones stay in the order of opening."""

    def lessThan(self, left: _Index, right: _Index) -> bool:
        first, second = left.data(_PRIORITY), right.data(_PRIORITY)
        return bool(first > second if first != second else left.row() < right.row())


class StudyDelegate(QStyledItemDelegate):
    """Thumbnail, name (over two lines if need be), a line about it, and status with an icon: never colour alone."""

    def __init__(self, parent: QWidget, model: StudyModel) -> None:
        super().__init__(parent)
        self._model = model
        self._thumbnails: dict[Path, tuple[int, QPixmap]] = {}

    def sizeHint(self, option: QStyleOptionViewItem, index: _Index) -> QSize:
        return QSize(120, max(64, 4 * option.fontMetrics.height() + 16))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _Index) -> None:
        study: Study = index.data(_STUDY)
        with no_collection():
            painter.save()
            self._paint(painter, option, study)
            painter.restore()

    def _paint(self, painter: QPainter, option: Any, study: Study) -> None:
        t, rect = current_tokens(), option.rect
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        current = self._model.is_current(study)
        if chosen or current:
            painter.fillRect(rect, QColor(t.selected if current else t.raised))
        if bool(option.state & QStyle.StateFlag.State_HasFocus):
            painter.setPen(QColor(t.accent))
            painter.drawRect(rect.adjusted(0, 0, -1, -1))
        side = min(52, rect.height() - 8)
        frame = QRect(rect.left() + 6, rect.center().y() - side // 2, side, side)
        painter.fillRect(frame, QColor(t.image))
        thumbnail = self._thumbnail(study)
        if thumbnail is not None:
            fitted = thumbnail.size().scaled(frame.size(), Qt.AspectRatioMode.KeepAspectRatio)
            target = QRect(frame.topLeft(), fitted)
            target.moveCenter(frame.center())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(target, thumbnail)
        metrics = option.fontMetrics
        line = metrics.height()
        left, width = frame.right() + 9, rect.right() - frame.right() - 15
        muted = QColor(t.text if current else t.muted)
        named = two_lines(name(study), width, metrics)
        shown = [(text, QColor(t.text)) for text in named]
        if study.subtitle:
            shown.append((metrics.elidedText(study.subtitle, Qt.TextElideMode.ElideRight, width), muted))
        top = rect.center().y() - ((len(shown) + 1) * (line + 2) - 2) // 2
        alignment = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for text, colour in shown:
            painter.setPen(colour)
            painter.drawText(QRect(left, top, width, line), alignment, text)
            top += line + 2
        self._status(painter, QRect(left, top, width, line), study, current, option)

    def _status(self, painter: QPainter, box: QRect, study: Study, current: bool, option: Any) -> None:
        t = current_tokens()
        plain = t.text if current else t.muted
        state = self._model.state(study)
        colour = {"error": t.error, "refused": t.warning}.get(state, plain)
        ratio = painter.device().devicePixelRatioF()
        painter.drawPixmap(box.left(), box.center().y() - 6, pixmap(_ICONS[state], colour, 13, ratio))
        painter.setPen(QColor(colour))
        text_box = box.adjusted(18, 0, 0, 0)
        text = self._model.status(study)
        elided = option.fontMetrics.elidedText(text, Qt.TextElideMode.ElideRight, text_box.width())
        painter.drawText(text_box, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), elided)

    def _thumbnail(self, study: Study) -> QPixmap | None:
        if study.thumbnail is None:
            return None
        known = self._thumbnails.get(study.path)
        if known is None or known[0] != id(study.thumbnail):
            rows, columns = study.thumbnail.shape
            data = study.thumbnail.tobytes()
            image = QImage(data, columns, rows, columns, QImage.Format.Format_Grayscale8)
            known = self._thumbnails[study.path] = (id(study.thumbnail), QPixmap.fromImage(image.copy()))
        return known[1]


class _List(QListView):
    """Enter opens, Delete takes off the list."""

    opened = Signal(QModelIndex)
    removed = Signal(QModelIndex)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.currentIndex().isValid():
            self.opened.emit(self.currentIndex())
        elif event.key() == Qt.Key.Key_Delete and self.currentIndex().isValid():
            self.removed.emit(self.currentIndex())
        else:
            super().keyPressEvent(event)


class StudiesPanel(QWidget):
    """Emits what the reader wants; who listens changes the list."""

    open_requested = Signal(object)
    """Path of the study to show."""
    remove_requested = Signal(object)

    def __init__(self, studies: StudyList, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._list = studies
        self.setAccessibleName("Studies")
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search")
        self.search.setAccessibleName("Search studies")
        self.search.setClearButtonEnabled(True)
        self.order = QComboBox()
        self.order.addItems(["As opened", "Highest score first"])
        self.order.setAccessibleName("Order of the list")
        self.model = StudyModel(studies, self)
        self.proxy = _Order(self)
        self.proxy.setSourceModel(self.model)
        self.proxy.setFilterRole(_SEARCH)
        self.proxy.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.search.textChanged.connect(self._filter)
        self.order.currentIndexChanged.connect(self._sort)
        self.view = _List()
        self.view.setModel(self.proxy)
        self.view.setItemDelegate(StudyDelegate(self.view, self.model))
        self.view.setAccessibleName("Studies")
        self.view.setUniformItemSizes(True)
        self.view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.view.clicked.connect(self._choose)
        self.view.opened.connect(self._choose)
        self.view.removed.connect(self._remove)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._offer)
        self.search.returnPressed.connect(self._to_list)
        self.empty = plain_label(tone="muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        for widget in (self.search, self.order, self.empty):
            layout.addWidget(widget)
        layout.addWidget(self.view, 1)
        layout.addStretch(0)
        self.setMinimumWidth(190)
        listen(studies.changed, self._changed)
        self._changed("list", None)

    def set_scores_hidden(self, hidden: bool) -> None:
        """Blind reading: the list must not tell what the AI says."""
        self.model.hide_scores = hidden
        self.proxy.invalidate()
        self.view.viewport().update()

    def _choose(self, index: QModelIndex) -> None:
        self.open_requested.emit(index.data(_STUDY).path)

    def _remove(self, index: QModelIndex) -> None:
        self.remove_requested.emit(index.data(_STUDY).path)

    def menu_at(self, position: QPoint) -> QMenu | None:
        """What can be done with the study there (viewport coordinates); None beside the list."""
        index = self.view.indexAt(position)
        if not index.isValid():
            return None
        path = index.data(_STUDY).path
        menu = QMenu(self.view)
        menu.addAction("Open").triggered.connect(lambda: self.open_requested.emit(path))
        menu.addAction("Remove from the list").triggered.connect(lambda: self.remove_requested.emit(path))
        return menu

    def _offer(self, position: QPoint) -> None:
        menu = self.menu_at(position)
        if menu is not None:
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.view.viewport().mapToGlobal(position))

    def _filter(self, text: str) -> None:
        self.proxy.setFilterFixedString(text.strip())
        self._changed("filter", None)

    def _to_list(self) -> None:
        """Enter in the search field: the first match gets the focus."""
        if self.proxy.rowCount():
            self.view.setFocus()
            if not self.view.currentIndex().isValid():
                self.view.setCurrentIndex(self.proxy.index(0, 0))

    def _sort(self, order: int) -> None:
        self.proxy.sort(0 if order else -1)

    def _changed(self, what: str, path: Path | None) -> None:
        some, found = bool(self._list.studies), self.proxy.rowCount() > 0
        self.empty.setText(
            "No study matches the search."
            if some
            else "No studies. Open files, or drop files and folders here."
        )
        for widget, shown in (
            (self.empty, not found),
            (self.view, found),
            (self.search, some),
            (self.order, len(self._list.studies) > 1),
        ):
            widget.setVisible(shown)
        # A list that came anew has lost its selection; a change of another study leaves it alone.
        row = self.model.row_of(self._list.current)
        if row >= 0 and (path == self._list.current or what != "study"):
            index = self.proxy.mapFromSource(self.model.index(row))
            if index.isValid() and index != self.view.currentIndex():
                self.view.setCurrentIndex(index)
        self.view.viewport().update()
