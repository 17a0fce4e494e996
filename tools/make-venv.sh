#!/bin/sh
# make-venv.sh FOLDER PYTHON: create a virtual environment; print what to install if PYTHON is empty.
if [ -z "$2" ]; then
    echo "No Python 3.11 or later that can create virtual environments was found." >&2
    echo "Install one (Debian: apt install python3 python3-venv), or pass make PYTHON=.." >&2
    exit 1
fi
[ -x "$1/bin/python" ] && exit
"$2" -m venv "$1" || { rm -rf "$1"; exit 1; }
