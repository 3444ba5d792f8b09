"""The page: what people see of jobs in a browser. Each page works without JavaScript.

How a page is made:

- A module here has a `router` with plain handlers; `api/app.py` names it in `PAGES`. A handler asks for
  `Viewer` or `Operator` as the API's do, calls the poster, and returns `printed(request, "name.html", ...)`.
- Whatever changes something is a form that posts, with `{{ csrf_field(csrf) }}` inside; the handler does it
  with the poster and answers `told("/jobs/...", "code")`, which goes there and says what `NOTICES` has under
  the code. Before what undoes or removes comes a page of its own, which shows it and asks why.
- An `EbbtideError` or `ApiError` that is not caught becomes a page (`refusal.py`), or the way to the login.
- Templates extend `base.html`; badges, bars, ages, labels and empty places are macros of `parts.html`.
  Nothing is `|safe`, and there is no inline script or style: the Content-Security-Policy forbids both.
- `asset("name.js")` is the URL of a file in `static/`, which changes with its content. Modules import each
  other by relative paths.

What live modules find in any page: an element with `data-job` stands for the job of that id and has
`data-phase` and `data-progress`. Inside of it `data-field="phase"` is the badge, `data-field="progress"` the
`<progress>`, `data-field="words"` the words beside it. `data-count="running"` is the count of a phase.
`data-live="rows"` is the body of the list, `data-query` beside it the query for `/api/v1/events`. When the
set or the order of its rows changes, the page is fetched again and that body exchanged: the server
alone makes markup.

On the page of a job `data-live="job"` marks what stands for it; the whole page is fetched again whenever the
job has changed. One stream, `/live`, brings the news of all that the tabs of a browser show (`live.py`);
`worker.js` holds it for all of them.
"""
