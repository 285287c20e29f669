"""The wheel, installed from the file into a bare environment."""

import glob
import os
import subprocess
import sys
import unittest
import venv
import zipfile

from support import HERE, Case


class Wheel(Case):
    def test_installed(self):
        build = [sys.executable, os.path.join(os.path.dirname(HERE), "wheel_builder.py"), self.dir]
        for _ in range(2):
            subprocess.run(build, check=True, stdout=subprocess.PIPE)
            (wheel,) = glob.glob(os.path.join(self.dir, "*.whl"))
            with open(wheel, "rb") as file:
                content = file.read()
        with open(wheel, "rb") as file:
            self.assertEqual(content, file.read())
        self.assertIn("dblock/py.typed", zipfile.ZipFile(wheel).namelist())

        home = os.path.join(self.dir, "venv")
        venv.create(home, with_pip=True)
        python = os.path.join(home, "bin", "python")
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        install = [python, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", wheel]
        subprocess.run(install, check=True, env=env, stdout=subprocess.PIPE)
        script = (
            "import sys, dblock, dblock.sqlite3\n"
            "assert dblock.__file__.startswith(sys.prefix), dblock.__file__\n"
            "from importlib.metadata import version\n"
            "assert version('dblock') == dblock.__version__\n"
            "with dblock.lock(sys.argv[1]): print('locked')\n"
        )
        run = subprocess.run(
            [python, "-I", "-c", script, self.db], check=True, env=env, cwd="/", stdout=subprocess.PIPE, text=True
        )
        self.assertEqual("locked\n", run.stdout)


if __name__ == "__main__":
    unittest.main()
