# curl, without a cache: each line is the answer of this moment.
while :; do
    token=$(curl -sS "$1/cgi-bin/token?grant_type=client_credential&appid=$2&secret=$3" 2>&1 |
        sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p')
    echo "${token:-! no token}"
    sleep 0.1
done
