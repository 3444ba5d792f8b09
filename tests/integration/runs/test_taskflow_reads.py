"""TaskFlow's own tools read what a job has left: one logbook, one flow detail, the atoms and results."""

import contextlib
import warnings

from taskflow.persistence import backends


def test_taskflows_own_backend_reads_a_finished_job(bench):
    job = bench.final(bench.run("linear"))
    url = bench.database.replace("postgresql://", "postgresql+psycopg2://")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TaskFlow's, about itself
        backend = backends.fetch({"connection": url})
        with contextlib.closing(backend), contextlib.closing(backend.get_connection()) as connection:
            connection.upgrade()
            (book,) = connection.get_logbooks()
            (flow,) = list(book)
            atoms = {atom.name: (atom.state, atom.results) for atom in flow}

    assert (job.state, book.uuid, flow.state) == ("completed", job.id, "SUCCESS")
    tasks = bench.shapes["linear"].tasks
    assert {name: state for name, (state, _) in atoms.items() if name in tasks} == dict.fromkeys(
        tasks, "SUCCESS"
    )
    noted = bench.steps.noted(str(bench.folder))
    given = {words[1]: {"token": words[2]} for words in noted if words[0] == "end"}
    assert {name: result for name, (_, result) in atoms.items() if name in tasks} == given
