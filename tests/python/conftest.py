"""Runs of the flights job, each done once for all tests that look at it."""

import pytest

from support import JOB, binary, driftline, model_env


def pytest_configure():
    binary()


class Runs:
    """`runs(model, options)` is the folder that a command of the program wrote for them."""

    def __init__(self, factory):
        self.factory = factory
        self.done = {}
        self.words = {}

    def __call__(self, model, *options, command="replay", **env):
        return self.of(JOB, *options, command=command, **model_env(model) | env)

    def of(self, job, *options, command="export", **env):
        """A run of any job file, which must not change."""
        key = (str(job), command, tuple(map(str, options)), tuple(sorted(env.items())))
        if key not in self.done:
            folder = self.factory.mktemp(command)
            done = driftline(command, job, "--out", folder, *options, env=env)
            self.done[key], self.words[folder] = folder, done.stderr
        return self.done[key]

    def said(self, folder) -> str:
        """The closing words of a run."""
        return self.words[folder]

    def full(self, model):
        """The whole year on one worker, with the inputs of the model."""
        return self(model, "--with-inputs")

    def export(self, *options, **env):
        return self("trees", *options, command="export", **env)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory)
