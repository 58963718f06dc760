"""Icons, drawn here on a grid of 24 by 24 (PURE).

Inline in the page they take the colour of the text and are hidden from screen readers,
because a word always stands beside them.
"""

ICONS = {
    "ok": '<path d="M5 12.5l4.5 4.5L19 7.5"/>',
    "wait": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>',
    "warn": '<path d="M12 4L2.8 20h18.4z"/><path d="M12 10v4.5M12 17.2v.1"/>',
    "bad": '<circle cx="12" cy="12" r="8.5"/><path d="M9 9l6 6M15 9l-6 6"/>',
    "info": '<circle cx="12" cy="12" r="8.5"/><path d="M12 11v5M12 7.8v.1"/>',
    "lock": '<rect x="5" y="11" width="14" height="9" rx="2"/><path d="M8 11V8a4 4 0 018 0v3"/>',
    "person": '<circle cx="12" cy="8" r="4"/><path d="M4 20c1-4.5 4-6 8-6s7 1.5 8 6"/>',
    "back": '<path d="M14.5 6l-6 6 6 6"/>',
    "next": '<path d="M9.5 6l6 6-6 6"/>',
    "leave": '<path d="M10 4H5v16h5M15 8l4 4-4 4M19 12H9"/>',
    "search": '<circle cx="10.5" cy="10.5" r="6.5"/><path d="M15.5 15.5L21 21"/>',
    "add": '<path d="M12 5v14M5 12h14"/>',
    "print": '<path d="M7 9V4h10v5M7 17H4V9h16v8h-3"/><path d="M7 14h10v6H7z"/>',
    "file": '<path d="M6 3h8l4 4v14H6z"/><path d="M14 3v4h4M9 12h6M9 16h6"/>',
    "sealed": '<path d="M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z"/>'
    '<path d="M9 11.5l2.2 2.2L15 10"/>',
    "broken": '<path d="M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z"/><path d="M10 9l4 5M14 9l-4 5"/>',
    "send": '<path d="M4 12L20 4l-5 16-3-7z"/>',
    "language": '<circle cx="12" cy="12" r="8.5"/><path d="M3.5 12h17M12 3.5c3 3 3 14 0 17'
    'M12 3.5c-3 3-3 14 0 17"/>',
    "hospital": '<path d="M9.5 4h5v5.5H20v5h-5.5V20h-5v-5.5H4v-5h5.5z"/>',
    "laboratory": '<path d="M9.5 3.5h5M10.5 3.5v6L5 18.5a1.5 1.5 0 001.3 2.2h11.4a1.5 1.5 0 '
    '001.3-2.2l-5.5-9v-6M8 15.5h8"/>',
    "none": '<circle cx="12" cy="12" r="7"/>',
}


def icon(name: str) -> str:
    """Return an icon as markup. Raises ``KeyError`` for a name that is not in ``ICONS``."""
    return (
        '<svg class="icon" viewBox="0 0 24 24" width="24" height="24" fill="none" '
        'stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" '
        f'aria-hidden="true" focusable="false">{ICONS[name]}</svg>'
    )


def icon_file(kind: str, brand: str, brand_text: str) -> str:
    """Return the picture for a browser's tab: the mark of a kind of institution on its colour."""
    mark = ICONS.get(kind, ICONS["none"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
        f'<rect width="24" height="24" rx="5" fill="{brand}"/>'
        f'<g transform="translate(3.6 3.6) scale(.7)" fill="none" stroke="{brand_text}" '
        f'stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round">{mark}</g></svg>'
    )
