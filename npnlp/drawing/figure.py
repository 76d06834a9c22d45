"""A figure that looks the same wherever it is drawn, and its file.

Pictures are made last and are no result of their own: what fails while one is drawn into a file is
a line on standard error that names it, and the program goes on.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from npnlp.drawing.fonts import noted
from npnlp.drawing.korean import KOREAN
from npnlp.drawing.language import require_language, translate
from npnlp.drawing.library import Figure, FigureCanvasAgg, own_settings
from npnlp.drawing.look import DPI, sized
from npnlp.files import write_atomic
from npnlp.files.pictures import format_of

#: No date and no version in the file: the same data gives the same bytes.
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Picture(Figure):
    """A Matplotlib figure that is drawn with the project's settings, whoever draws it and when.

    It shows itself in a notebook. A user's own settings (``matplotlibrc``, ``rcParams``, the
    notebook's backend) do not reach it, and it is not registered with ``pyplot``.
    """

    def __init__(self, width: float, height: float, settings: Mapping[str, Any]) -> None:
        super().__init__(figsize=(width, height), dpi=DPI, layout="constrained")
        self.settings = dict(settings)

    def draw(self, renderer: Any) -> None:
        """Draw everything: what is made only now (ticks) is made with the project's settings."""
        with own_settings(self.settings):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """As Matplotlib's own, with the project's settings for what ``options`` do not name."""
        with own_settings(self.settings):
            super().savefig(fname, **options)

    def content(self, kind: str = "png") -> bytes:
        """The bytes of a file of the kind, one of :data:`npnlp.files.pictures.FORMATS`."""
        with own_settings(self.settings):
            if kind != "png":
                stream = io.BytesIO()
                super().savefig(stream, format=kind, metadata=METADATA[kind])
                return stream.getvalue()
            stream, canvas = io.BytesIO(), FigureCanvasAgg(self)
            # Figure.savefig would draw everything twice.
            canvas.print_png(  # type: ignore[no-untyped-call]
                stream, metadata={"Software": None}, pil_kwargs={"compress_level": 6}
            )
            return stream.getvalue()

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.content()


@contextmanager
def picture(
    path: str | Path | None = None,
    width: float = 12,
    height: float = 6.75,
    texts: Iterable[str] = (),
    language: str = "en",
) -> Iterator[Picture]:
    """A figure in the project's style; with ``path``, it is written there at the end.

    The sizes are in inches. ``texts`` are a user's own, for which a font is looked for. The labels
    are in ``language``, one of :data:`npnlp.drawing.LANGUAGES`: what is written here in English is
    translated at the end. With ``path``, what fails between here and the end is said in one line,
    and there is no file then; only a failure to write the file is raised. Raises
    :class:`InputError` for a ``path`` with an ending that is no format of pictures, and where no
    font has the language.
    """
    require_language(language)
    begun = _begun(width, height, texts, path, language)
    if path is None:
        with begun as figure:
            yield figure
        return
    kind = format_of(path)
    try:
        with begun as figure:
            yield figure
        content = figure.content(kind)
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"{path} is not drawn ({why})", file=sys.stderr)
        Path(path).unlink(missing_ok=True)  # one from before would be taken for this one
    else:
        write_atomic(path, content)


@contextmanager
def _begun(
    width: float, height: float, texts: Iterable[str], path: str | Path | None, language: str
) -> Iterator[Picture]:
    """A figure without content, amid the project's settings; its labels are translated after."""
    with own_settings():
        known = KOREAN.values() if language == "ko" else ()
        families = noted([*texts, *known], path)
    settings = {**sized(width), "font.family": families}
    with own_settings(settings):
        figure = Picture(width, height, settings)
        yield figure
        if language != "en":
            translate(figure, language)
