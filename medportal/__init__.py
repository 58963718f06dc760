"""medportal: medical records that travel from laboratory to hospital, and that patients control.

The rooms, from top to bottom; each imports only from those below it:
``cli jobs demo ops``, ``admin``, ``transfer``, ``records``, ``access``, ``delivery``,
``patients``, ``identity``, ``mail``, ``pki``, ``audit``, ``vault``, ``tenancy``, ``web``,
``db``, ``core``. Start reading at :mod:`medportal.config`, then at ``docs/architecture.md``.
"""

import warnings
from collections.abc import Mapping
from typing import Any

# Pyramid and deform import pkg_resources, which says at every start that it is old; setuptools
# is pinned for them, and an operator can do nothing about it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)


def main(global_config: Mapping[str, str], **settings: str) -> Any:
    """Return the portal's WSGI application (PasteDeploy's ``app_factory``)."""
    # Imported here, so that importing a PURE module does not pull in Pyramid.
    from medportal.config import make_app

    return make_app(settings)
