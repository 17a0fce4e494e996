#!/bin/sh
# find-python.sh VERSION   print a CPython of that version that can create virtual environments;
#                          VERSION 3.11 falls back to a later python3
# find-python.sh --others  print the versions above 3.11 that this machine has
# Searches PATH and pyenv's versions, because pyenv's shims on PATH may not work.

usable() {
    "$1" -c "import sys, ensurepip, venv; sys.exit(
        sys.implementation.name != 'cpython' or sys.version_info < (3, 11) or
        ('$2' and '%d.%d' % sys.version_info[:2] != '$2'))" >/dev/null 2>&1
}

find() {
    IFS=:
    for folder in $PATH; do
        usable "$folder/python$1" "$1" && echo "$folder/python$1" && return
    done
    unset IFS
    for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/"python$1"; do
        usable "$python" "$1" && echo "$python" && return
    done
    return 1
}

if [ "$1" = --others ]; then
    for version in 3.12 3.13 3.14; do
        (find $version >/dev/null) && echo $version
    done
    exit 0
fi
(find "$1") && exit
[ "$1" = 3.11 ] && usable python3 "" && command -v python3
