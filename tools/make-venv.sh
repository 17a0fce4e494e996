#!/bin/sh
# make-venv.sh FOLDER PYTHON: create a virtual environment. If PYTHON is empty or can't be used, print
# why and what to install.
[ -x "$1/bin/python" ] && exit
tools=$(dirname "$0")
if [ -n "$2" ]; then
    why=$(sh "$tools/find-python.sh" --why "$2")
    [ -z "$why" ] && { "$2" -m venv "$1" || { rm -rf "$1"; exit 1; }; } && exit
else
    why=$(sh "$tools/find-python.sh" --why)
fi
{
    echo "No CPython 3.11 or later that can create virtual environments was found:"
    echo "${why:-there is no python3 on PATH}" | sed 's/^/  /'
    echo "Install one (Debian 12 or later: apt install python3 python3-venv; elsewhere pyenv has it)," \
        "or pass make PYTHON=.."
} >&2
exit 1
