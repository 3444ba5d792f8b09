"""What serves the whole test session is nothing that a test has left."""

import contextlib

import psycopg2


def test_the_end_of_a_test_leaves_the_servants_of_the_session_and_their_children_alone(stage, postgresql):
    url = postgresql.create_database()
    postgresql.restart()
    with contextlib.closing(psycopg2.connect(url)) as connection:
        assert stage.left() == []

        stage.end()

        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    postgresql.drop_database(url)
