#!/bin/sh
# find-python.sh VERSION   print a CPython of that version that can create virtual environments;
#                          VERSION 3.11 falls back to a later one
# find-python.sh --others  print the versions above 3.11 that this machine has
# find-python.sh --why     print why each Python on PATH can't be used
# find-python.sh --why PYTHON   the same for one; prints nothing if it can be used
# Searches PATH and pyenv's versions, because pyenv's shims on PATH may not work.

# Print nothing if $1 is a CPython 3.11 or later, of version $2 if given, that can create virtual
# environments; otherwise what is wrong.
reason() {
    "$1" -c "import sys
wanted, found = '$2', sys.version_info
minor = '%d.%d' % found[:2]
if sys.version_info < (3, 11):
    print('%s is Python %s, too old' % (sys.argv[1], minor))
elif sys.implementation.name != 'cpython':
    print('%s is %s, not CPython' % (sys.argv[1], sys.implementation.name))
elif wanted and minor != wanted:
    print('%s is Python %s' % (sys.argv[1], minor))
else:
    try:
        import ensurepip, venv
    except ImportError:
        text = '%s is Python %s without venv and ensurepip (Debian: apt install python%s-venv)'
        print(text % (sys.argv[1], minor, minor))
" "$1" 2>/dev/null || echo "$1 does not run"
}

usable() {
    [ -x "$1" ] && [ -z "$(reason "$1" "$2")" ]
}

# find NAME [VERSION]: print the first usable Python of this name
find() {
    IFS=:
    for folder in $PATH; do
        usable "$folder/$1" "$2" && echo "$folder/$1" && return
    done
    unset IFS
    for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${1#python}"*/bin/"$1"; do
        usable "$python" "$2" && echo "$python" && return
    done
    return 1
}

case $1 in
--others)
    for version in 3.12 3.13 3.14; do
        (find python$version $version >/dev/null) && echo $version
    done
    exit 0
    ;;
--why)
    if [ -n "$2" ]; then
        reason "$2"
        exit 0
    fi
    IFS=:
    for folder in $PATH; do
        for python in "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9]; do
            [ -x "$python" ] && reason "$python"
        done
    done
    exit 0
    ;;
3.11)
    for name in python3.11 python3.12 python3.13 python3.14 python3; do
        (find $name) && exit
    done
    exit 1
    ;;
*) find "python$1" "$1" ;;
esac
