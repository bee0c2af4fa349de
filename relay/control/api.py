"""The API for staff, to be mounted at /v1: what is kept, as far as a token and grants allow."""

from __future__ import annotations

from fastapi import FastAPI

from relay import __version__
from relay.control import calls_api, grants_api, recordings_api
from relay.control.access import Access
from relay.control.answers import SmallBodies, add_refusals


def api(access: Access) -> FastAPI:
    """Described by itself at /v1/openapi.json."""
    app = FastAPI(
        title="Regional voice relay: what is kept, for staff",
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,  # its pages load from elsewhere
        redoc_url=None,
    )
    app.state.access = access
    app.add_middleware(SmallBodies)
    add_refusals(app, access.refused, access.on_bug)
    for part in (calls_api, recordings_api, grants_api):
        app.include_router(part.router)
    return app
