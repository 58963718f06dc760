"""Forms: deform, with our own templates and honest handling of what comes in.

A view::

    form = make_form(request, SignIn(), submit=_("Sign in"))
    if request.method == "POST":
        values = form.validate(request.POST.items())
        if values is not None:
            ...
            return HTTPSeeOther(...)
    return {"form": form}

and its template says ``${form}``. The frame shows the error summary by itself.

deform's own templates are not on the search path: several of them write inline script, which
our policy would block without a word. A widget that has no template here fails loudly.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import colander
import deform
import peppercorn
from chameleon.utils import Markup
from deform.widget import (
    CheckboxChoiceWidget,
    CheckboxWidget,
    DatePartsWidget,
    HiddenWidget,
    PasswordWidget,
    RadioChoiceWidget,
    SelectWidget,
    TextAreaWidget,
    TextInputWidget,
    Widget,
)
from pyramid.csrf import get_csrf_token
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.path import AssetResolver
from pyramid.request import Request
from pyramid.threadlocal import get_current_request

from medportal.web.i18n import _, translate
from medportal.web.limits import MAX_FIELDS, posted_text

#: A form with errors is answered with this status: understood, but not acceptable.
UNACCEPTABLE = 422
LONGEST_TEXT = 20_000
Values = dict[str, Any]


def includeme(config: Any) -> None:
    """Make the renderer of this application's forms."""
    templates = AssetResolver().resolve("medportal.web:templates/widgets").abspath()
    settings = config.registry.settings
    config.registry["medportal.form_renderer"] = deform.ZPTRendererFactory(
        (templates,),
        auto_reload=bool(settings.get("pyramid.reload_templates", False)),
        translator=_translate_now,
    )


class Form:
    """One form of one request."""

    def __init__(self, request: Request, form: deform.Form) -> None:
        self._request = request
        self._form = form
        self._general: list[str] = []

    def __html__(self) -> str:
        """Return the markup; this is what makes ``${form}`` work in a template."""
        return self.render()

    def __getitem__(self, name: str) -> deform.Field:
        """Return a field, to set a widget or look at it. Raises ``KeyError``."""
        return self._form[name]

    @property
    def is_submitted(self) -> bool:
        """Tell whether this request submits this form (there may be several on a page)."""
        sent = posted_text(self._request, "__formid__")
        return bool(self._request.method == "POST" and sent == self._form.formid)

    def fill(self, values: Mapping[str, Any]) -> "Form":
        """Fill the fields with values of the application."""
        self._form.set_appstruct(dict(values))
        return self

    def validate(self, controls: Iterable[tuple[str, Any]]) -> Values | None:
        """Return the values, or ``None`` if the form has to be shown again with its errors.

        Raises ``HTTPBadRequest`` for input that no browser makes from this form: fields that
        are no text, too many of them, or in a shape that the form does not have.
        """
        files = [f.name for f in self._form.children if isinstance(f.widget, FileWidget)]
        pstruct = _parse(list(controls), files)
        _require_shape(self._form, pstruct)
        try:
            values: Values = self._form.validate_pstruct(pstruct)
        except deform.ValidationFailure:
            self._failed()
            return None
        return values

    def fail(self, field: str | None, message: str) -> None:
        """Add an error found after validation to a field, or to the form as a whole.

        ``field`` names a field of a section as ``section/field``.
        Raises ``KeyError`` for a field that the form does not have. The form is then to be
        shown again.
        """
        if field is None:
            self._general.append(message)
        else:
            found = self._form
            for name in field.split("/"):
                found = found[name]
            found.error = colander.Invalid(found.schema, message)
        self._failed()

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Return the id of the input and the message of each error, in the order of the page.

        The id is empty for an error of the form as a whole.
        """
        general = [("", translate(self._request, message)) for message in self._general]
        own = [("", message) for message in self._messages(self._form)]
        return general + own + list(self._of_children(self._form))

    def render(self) -> str:
        """Return the form as markup, with its token."""
        return Markup(
            self._form.render(
                csrf_token=get_csrf_token(self._request),
                has_optional=any(_is_optional(child) for child in self._form.children),
                has_file=any(isinstance(f.widget, FileWidget) for f in self._form.children),
            )
        )

    def _failed(self) -> None:
        self._request.failed_form = self
        self._request.response.status_int = UNACCEPTABLE

    def _of_children(self, parent: deform.Field) -> Iterable[tuple[str, str]]:
        for child in parent.children:
            for message in self._messages(child):
                title = translate(self._request, child.title)
                yield focus_id(child), f"{title}: {message}"
            yield from self._of_children(child)

    def _messages(self, field: deform.Field) -> list[str]:
        if field.error is None:
            return []
        return [translate(self._request, message) for message in field.error.messages()]


def make_form(
    request: Request,
    schema: colander.Schema,
    *,
    submit: str = _("Save"),
    action: str = "",
    form_id: str = "form",
    secondary: Sequence[tuple[str, str]] = (),
    danger: bool = False,
) -> Form:
    """Return a form for ``schema`` with one primary button.

    ``action`` is where it goes (this page, if empty), ``secondary`` links beside the button as
    (address, words), ``danger`` makes the button say by its looks that this destroys something.
    Several forms on one page need different ``form_id``.
    """
    buttons = [deform.Button("submit", submit, css_class="btn-danger" if danger else "btn-primary")]
    buttons += [
        deform.Button(f"other{i}", words, type="link", value=address, css_class="btn-link")
        for i, (address, words) in enumerate(secondary)
    ]
    bound = schema.bind(request=request)
    _name_inputs(bound, form_id)
    form = deform.Form(
        bound,
        action=action or request.path_qs,
        buttons=buttons,
        formid=form_id,
        renderer=request.registry["medportal.form_renderer"],
        focus="off",
    )
    return Form(request, form)


class DateWidget(DatePartsWidget):  # type: ignore[misc]  # deform has no types
    """Day, month and year as three fields: dates that people know are typed faster than picked.

    A year is never completed: "49" may be 1949 or 2049.
    """

    assume_y2k = False
    autocomplete: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """The bytes of a file that somebody chose; what it is called is not looked at."""

    data: bytes


class FileData(colander.SchemaType):  # type: ignore[misc]  # colander has no types
    """The bytes of a file. A browser cannot be given one back, so a form shows none."""

    def serialize(self, node: Any, appstruct: Any) -> Any:
        """Return nothing to show."""
        return colander.null

    def deserialize(self, node: Any, cstruct: Any) -> Any:
        """Return the bytes that the widget took."""
        return cstruct


class FileWidget(Widget):  # type: ignore[misc]  # deform has no types
    """One file, held in memory; the size of a whole request is limited."""

    template = "file"

    def __init__(self, accept: str) -> None:
        """Take the media type that the browser is asked to offer; what comes may be another."""
        super().__init__()
        self.accept = accept

    def serialize(self, field: Any, cstruct: Any, **kw: Any) -> Any:
        """Return the markup."""
        return field.renderer(self.template, **self.get_template_values(field, cstruct, kw))

    def deserialize(self, field: Any, pstruct: Any) -> Any:
        """Return the bytes, or nothing where no file was chosen."""
        return pstruct.data if isinstance(pstruct, Upload) else colander.null


def text(
    *,
    autocomplete: str | None = None,
    numeric: bool = False,
    decimal: bool = False,
    unit: str | None = None,
    width: int | None = None,
    kind: str = "text",
    spellcheck: bool | None = None,
) -> TextInputWidget:
    """Return a widget for a line of text.

    ``numeric`` and ``decimal`` bring up the right keyboard on a phone, ``unit`` is written
    after the field, ``width`` is the usual length in characters (2, 3, 4, 5, 10, 20 or 30).
    """
    attributes = {
        "autocomplete": autocomplete,
        "inputmode": "numeric" if numeric else "decimal" if decimal else None,
        # What HTML takes an input for by itself.
        "type": None if kind == "text" else kind,
        "spellcheck": None if spellcheck is None else str(spellcheck).lower(),
    }
    return TextInputWidget(
        attributes={key: value for key, value in attributes.items() if value is not None},
        input_append=unit,
        css_class=f"width-{width}" if width else None,
    )


def password(autocomplete: str, *, strength: Mapping[str, str] | None = None) -> PasswordWidget:
    """Return a widget for a password: ``current-password`` or ``new-password``.

    What is typed is taken as it is, with spaces at its ends. ``strength`` are the attributes by
    which a script tells how strong a new one is, while it is typed (see ``strength.js``).
    """
    return PasswordWidget(
        attributes={"autocomplete": autocomplete},
        css_class="width-30",
        strip=False,
        strength=strength,
    )


def area(rows: int = 5) -> TextAreaWidget:
    """Return a widget for several lines of text."""
    return TextAreaWidget(rows=rows)


def date_parts(autocomplete: str | None = None) -> DateWidget:
    """Return a widget for a date that the person knows; ``bday`` for the own date of birth."""
    return DateWidget(autocomplete=autocomplete)


def radios(values: Sequence[tuple[str, str]]) -> RadioChoiceWidget:
    """Return a widget to choose one of a few (value, words)."""
    return RadioChoiceWidget(values=values)


def select(values: Sequence[tuple[str, str]]) -> SelectWidget:
    """Return a widget to choose one of many (value, words); first an empty one, if optional."""
    return SelectWidget(values=values)


def checkboxes(values: Sequence[tuple[str, str]]) -> CheckboxChoiceWidget:
    """Return a widget to choose any of a few (value, words); for ``colander.Set()``."""
    return CheckboxChoiceWidget(values=values)


def file(accept: str) -> FileWidget:
    """Return a widget for one file of a media type; for ``FileData()``, not within a section."""
    return FileWidget(accept)


def checkbox() -> CheckboxWidget:
    """Return a widget for yes or no; for ``colander.Boolean()``, whose title is the question."""
    return CheckboxWidget()


def hidden() -> HiddenWidget:
    """Return a widget for a value that comes back as it was sent, unless somebody changed it."""
    return HiddenWidget()


def is_group(field: deform.Field) -> bool:
    """Tell whether a field is several inputs, which share a legend in place of a label."""
    return isinstance(field.widget, RadioChoiceWidget | CheckboxChoiceWidget | DatePartsWidget)


def focus_id(field: deform.Field) -> str:
    """Return the id of the input to which a link to a field leads."""
    if isinstance(field.widget, RadioChoiceWidget | CheckboxChoiceWidget):
        return f"{field.oid}-0"
    return str(field.oid)


def described_by(field: deform.Field) -> str | None:
    """Return the ids of what describes an input: help, unit, error; ``None`` without any."""
    ids = [
        f"{name}-{field.oid}"
        for name, present in (
            ("help", bool(field.description)),
            ("unit", bool(getattr(field.widget, "input_append", None))),
            ("error", field.error is not None),
        )
        if present
    ]
    return " ".join(ids) or None


def input_attributes(field: deform.Field) -> dict[str, str]:
    """Return the attributes that tie an input to its help and errors."""
    attributes = dict(getattr(field.widget, "attributes", None) or {})
    if field.required and not (is_group(field) or isinstance(field.widget, CheckboxWidget)):
        attributes["aria-required"] = "true"
    if field.error is not None:
        attributes["aria-invalid"] = "true"
    described = described_by(field)
    if described and not is_group(field):
        attributes["aria-describedby"] = described
    return attributes


def _name_inputs(node: colander.SchemaNode, prefix: str) -> None:
    """Give inputs ids that say what they are and do not change from one release to the next."""
    for child in node.children:
        child.oid = f"{prefix}-{child.name}"
        _name_inputs(child, child.oid)


def _is_optional(field: deform.Field) -> bool:
    if field.widget.hidden or isinstance(field.widget, CheckboxWidget):
        return False
    return not field.required or any(_is_optional(child) for child in field.children)


def _parse(controls: list[tuple[str, Any]], files: Collection[str] = ()) -> Values:
    if len(controls) > MAX_FIELDS:
        raise HTTPBadRequest()
    controls = [(name, _taken(name, value, files)) for name, value in controls]
    try:
        parsed: Values = peppercorn.parse(controls)
    except (ValueError, IndexError, TypeError, RecursionError) as error:
        raise HTTPBadRequest() from error
    return parsed


def _taken(name: str, value: Any, files: Collection[str]) -> str | Upload:
    """Return what was sent; a file only where the form has a field for one, "" for none."""
    if isinstance(value, str):
        _require("\x00" not in value and len(value) <= LONGEST_TEXT)
        return value
    _require(name in files)
    # A part of a form that names no file comes as bytes: a browser's way to say that none was
    # chosen.
    data = value if isinstance(value, bytes) else value.file.read()
    return Upload(data) if data else ""


def _require_shape(field: deform.Field, value: Any) -> None:
    """Raise ``HTTPBadRequest`` unless ``value`` has the shape that the field's inputs make.

    Widgets assume it; without this check a list in place of a text would be our crash.
    """
    if isinstance(field.typ, colander.Mapping):
        _require(isinstance(value, dict))
        for child in field.children:
            if child.name in value:
                _require_shape(child, value[child.name])
    elif isinstance(field.widget, DatePartsWidget):
        _require(isinstance(value, dict) and set(value) == {"year", "month", "day"})
        _require(all(isinstance(part, str) for part in value.values()))
    elif isinstance(field.widget, CheckboxChoiceWidget):
        _require(isinstance(value, list) and all(isinstance(part, str) for part in value))
    elif isinstance(field.widget, FileWidget):
        # Where no file was chosen a browser sends an empty text.
        _require(value == "" or isinstance(value, Upload))
    else:
        _require(isinstance(value, str))


def _require(is_so: bool) -> None:
    if not is_so:
        raise HTTPBadRequest()


def _translate_now(message: Any) -> str:
    request = get_current_request()
    return str(message.interpolate() if request is None else translate(request, message))
