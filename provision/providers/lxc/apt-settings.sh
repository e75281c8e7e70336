# shellcheck shell=sh
# Sourced by the build scripts. apt_settings SETTING…: lines for apt.conf while something is built: the
# settings of this host, and the package pool (see provision/core/pool/run.py), which sends a file
# only when it has all of it. Nothing of this remains in an image.
apt_settings() {
    printf '%s\n' "$@"
    for option in $LAB_POOL_OPTIONS; do
        printf '%s "%s";\n' "${option%%=*}" "${option#*=}"
    done
    printf 'Acquire::http::Proxy "%s";\n' "$LAB_POOL_PROXY"
    printf 'Acquire::http::Timeout "600";\nAcquire::Retries "0";\nAcquire::Languages "none";\n'
}
