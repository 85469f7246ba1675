"""Says in a sentence why OpenCV cannot be loaded; imported before all modules of this package that use it."""

try:
    import cv2  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"OpenCV cannot be loaded ({error}); on a machine without a desktop take its build without windows: "
        "bash install.sh, or pip uninstall -y opencv-python, then pip install opencv-python-headless"
    ) from error
