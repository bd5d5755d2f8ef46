"""A mail server that takes mail for whoever it is for, and misbehaves when told to.

The argument is a JSON object: {"tls": "starttls" | "implicit" | "none", "certificate", "key", "user", "password"}.
It prints {"port": …} once it listens, then {"mail": …} for each message and {"done": …} for each command. Commands
are JSON objects, one a line of standard input:

  {"rcpt": ["451 4.3.0 later", …]}   answers to the next recipients, one each
  {"data": ["554 no", …]}            answers to the next messages, one each
  {"hang": true}                     says nothing any more to new connections
  {"listen": false}                  refuses connections; true takes them again, on the same port

It ends with its input.
"""

import asyncio
import json
import logging
import ssl
import sys
import warnings
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


# What it warns of is what these stories are about.
warnings.simplefilter("ignore")
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


def say(what):
    print(json.dumps(what), flush=True)


def text_of(message, kind):
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part else None


class Post:
    def __init__(self):
        self.rcpt, self.data = [], []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.rcpt:
            return self.rcpt.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        answer = self.data.pop(0) if self.data else "250 2.0.0 taken"
        if not answer.startswith("2"):
            return answer
        message = message_from_bytes(envelope.content, policy=policy.default)
        say({"mail": {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "encrypted": session.ssl is not None,
            "user": session.auth_data.decode() if session.auth_data else None,
            "headers": [[name, str(value)] for name, value in message.items()],
            "parts": [part.get_content_type() for part in message.walk()],
            "text": text_of(message, "plain"),
            "html": text_of(message, "html"),
        }})
        return answer


class Mute(asyncio.Protocol):
    """Takes a connection and never says a word."""


async def main():
    options = json.loads(sys.argv[1])
    context = None
    if options["tls"] != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"], options["key"])
    post = Post()

    def authenticate(server, session, envelope, mechanism, login):
        fits = isinstance(login, LoginPassword) and (login.login.decode(), login.password.decode()) == (
            options.get("user"), options.get("password"))
        return AuthResult(success=fits, handled=False, auth_data=login.login if fits else None)

    hangs = False

    def connection():
        if hangs:
            return Mute()
        starttls = options["tls"] == "starttls"
        return SMTP(
            post,
            hostname="mail.example",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=bool(options.get("user")),
            auth_require_tls=starttls,
            authenticator=authenticate,
        )

    loop = asyncio.get_running_loop()

    async def listen(port):
        wrapped = context if options["tls"] == "implicit" else None
        return await loop.create_server(connection, "127.0.0.1", port, ssl=wrapped, reuse_address=True)

    server = await listen(0)
    port = server.sockets[0].getsockname()[1]
    say({"port": port})
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        post.rcpt += command.get("rcpt", [])
        post.data += command.get("data", [])
        hangs = command.get("hang", hangs)
        if "listen" in command:
            if command["listen"]:
                server = await listen(port)
            else:
                server.close()
        say({"done": command})


asyncio.run(main())
