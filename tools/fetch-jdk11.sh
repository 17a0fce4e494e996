#!/bin/sh
# fetch-jdk11.sh FOLDER: unpack a JDK 11 into FOLDER, for Cassandra 2.1 to 4.1. Nothing is installed.
# Newer Debian releases have no JDK 11, so the packages come from Debian bullseye, from this machine's
# mirror, through a separate apt root.
set -eu
[ -x "$1/bin/java" ] && exit
command -v apt-get >/dev/null || {
    echo "can't fetch a JDK 11 without apt-get: install a JDK 11 and set JAVA11_HOME" >&2
    exit 1
}
parent=$(dirname "$1")
mkdir -p "$parent"
folder=$(mktemp -d "$parent/.jdk11-XXXXXX")
trap 'rm -rf "$folder"' EXIT
root=$folder/apt
mkdir -p "$root/etc/apt/apt.conf.d" "$root/etc/apt/preferences.d" "$root/etc/apt/trusted.gpg.d" \
    "$root/etc/apt/sources.list.d" "$root/var/lib/dpkg" "$root/var/lib/apt/lists/partial" \
    "$root/var/cache/apt/archives/partial"
: >"$root/var/lib/dpkg/status"
mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    sed -n 's/^URIs: *\([^ ]*\/debian\)\/*$/\1/p; s/^deb \([^ ]*\/debian\)\/* .*/\1/p' | sed -n 1p)
[ -n "$mirror" ] || {
    echo "no Debian mirror in /etc/apt: install a JDK 11 and set JAVA11_HOME" >&2
    exit 1
}
cat >"$root/etc/apt/sources.list.d/bullseye.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: bullseye
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
cat >"$root/apt.conf" <<CONF
Dir "$root";
Dir::State::status "$root/var/lib/dpkg/status";
Dir::Etc "etc/apt";
Dir::Etc::sourcelist "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$root/apt.conf"
apt-get -qq update
(cd "$folder" && apt-get -qq download openjdk-11-jre-headless openjdk-11-jdk-headless)
for package in "$folder"/*.deb; do
    dpkg -x "$package" "$folder/files"
done
jdk=$(echo "$folder"/files/usr/lib/jvm/java-11-openjdk-*)
# Debian's JDK has its configuration in /etc, with links to it: replace the links by copies.
find "$jdk" -type l | while read -r link; do
    target=$(readlink "$link")
    case $target in
    /etc/java-11-openjdk/*)
        rm "$link"
        [ ! -e "$folder/files$target" ] || cp -r "$folder/files$target" "$link"
        ;;
    esac
done
rm -rf "$1"
mv "$jdk" "$1"
"$1/bin/java" -version 2>/dev/null
