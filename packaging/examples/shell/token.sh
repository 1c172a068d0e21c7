#!/bin/sh
# The token in a shell script. token.sh get|curl API_SOCKET ACCOUNT, or token.sh env FILE
set -eu

case $1 in
get) # ends the script, with a message, when there is no valid token
	token=$(wxtokend --socket "$2" get "$3")
	;;
curl)
	answer=$(curl -sSf -m 15 --unix-socket "$2" "http://localhost/v1/accounts/$3/token")
	token=$(echo "$answer" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
	;;
env) # a file with format = "env"
	. "$2"
	token=$ACCESS_TOKEN
	;;
esac
echo "$token"
