"""The routes: pages, events, pictures, and the two things that can be done with a run."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from importlib.resources import files
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from thorndike.errors import ThorndikeError
from thorndike.pages import CSS
from thorndike.ui import views
from thorndike.ui.events import Stream, events
from thorndike.ui.folder import Folder
from thorndike.ui.guard import Guard
from thorndike.ui.processes import Processes

MOST = 24  # runs on one page


def app(folder: Folder, guard: Guard, processes: Processes, going: Callable[[], bool] = lambda: True) -> Starlette:
    """The application for the runs below `folder`; streams end when `going()` is False."""

    def names(request: Request) -> list[str]:
        found = list(dict.fromkeys(request.query_params.getlist("run")))
        return found[:MOST]

    async def index(request: Request) -> Response:
        stream = Stream(folder, processes, [])
        lines = await run_in_threadpool(lambda: [stream.line(record) for record in folder.records()])
        return HTMLResponse(views.index(folder, lines, guard.word))

    async def show(request: Request) -> Response:
        chosen = names(request)
        if not chosen:
            return Response(status_code=303, headers={"Location": "/"})
        return HTMLResponse(await run_in_threadpool(views.show, Stream(folder, processes, chosen), guard.word))

    async def stream(request: Request) -> Response:
        found = await run_in_threadpool(Stream, folder, processes, names(request))
        return StreamingResponse(events(found, going), media_type="text/event-stream")

    async def picture(request: Request) -> Response:
        path = await run_in_threadpool(
            folder.picture, request.query_params.get("run", ""), request.query_params.get("file", "")
        )
        return FileResponse(path, media_type=mimetypes.guess_type(path.name)[0])

    async def stop(request: Request) -> Response:
        path = folder.run(request.query_params.get("run", ""))
        return JSONResponse({"said": await run_in_threadpool(processes.stop, path)})

    async def resume(request: Request) -> Response:
        path, steps = folder.run(request.query_params.get("run", "")), request.query_params.get("steps", "")
        if steps and not (steps.isascii() and steps.isdecimal() and len(steps) < 18):
            return JSONResponse({"said": f"steps are a whole number, not {steps!r}"}, 400)
        return JSONResponse({"said": await run_in_threadpool(processes.resume, path, int(steps) if steps else None)})

    async def script(request: Request) -> Response:
        return Response(files("thorndike.ui").joinpath("curves.js").read_text("utf-8"), media_type="text/javascript")

    async def style(request: Request) -> Response:
        return Response(CSS + views.CSS, media_type="text/css")

    async def icon(request: Request) -> Response:
        return Response(status_code=204)

    async def refused(request: Request, error: Exception) -> Response:
        if request.method == "POST":
            return JSONResponse({"said": str(error)}, 400)
        return PlainTextResponse(str(error), 404)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/show", show),
            Route("/events", stream),
            Route("/picture", picture),
            Route("/stop", stop, methods=["POST"]),
            Route("/resume", resume, methods=["POST"]),
            Route("/curves.js", script),
            Route("/style.css", style),
            Route("/favicon.ico", icon),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
        exception_handlers={ThorndikeError: refused},
    )


def address(host: str, port: int, token: str) -> str:
    """What a browser opens."""
    name = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/?token={quote(token)}"
