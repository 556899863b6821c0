from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class EditableWheelWithData(editable_wheel):
    """``pip install -e .`` installs ``data_files`` too: setuptools asks for ``has_data``, which nothing defines."""

    def run(self) -> None:
        self.distribution.has_data = self.distribution.has_data_files
        super().run()


setup(cmdclass={"editable_wheel": EditableWheelWithData})
