/*
 * The ceiling: a server that does nothing but receive and send, 32 datagrams
 * with each system call. It returns every query as a response, bit QR set.
 *
 *   echo ADDRESS PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BATCH = 32, SIZE = 21 * 64, RECEIVE_BUFFER = 4 << 20 };

static char buffers[BATCH][SIZE];
static struct sockaddr_in names[BATCH];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

int main(int argc, char **argv) {
	if (argc != 3)
		errx(2, "usage: echo ADDRESS PORT");
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	if (inet_pton(AF_INET, argv[1], &at.sin_addr) != 1)
		errx(2, "%s: not an IPv4 address", argv[1]);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), size = RECEIVE_BUFFER;
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		err(1, "bind %s:%s", argv[1], argv[2]);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	for (int i = 0; i < BATCH; i++) {
		vectors[i].iov_base = buffers[i];
		messages[i].msg_hdr.msg_name = &names[i];
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			vectors[i].iov_len = SIZE;
			messages[i].msg_hdr.msg_namelen = sizeof names[i];
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0 && errno != EINTR)
			err(1, "recvmmsg");
		for (int i = 0; i < n; i++) {
			vectors[i].iov_len = messages[i].msg_len;
			buffers[i][2] |= 0x80;
		}
		for (int done = 0; done < n;) {
			int sent = sendmmsg(fd, messages + done, n - done, 0);
			if (sent < 0 && errno != EINTR)
				err(1, "sendmmsg");
			if (sent > 0)
				done += sent;
		}
	}
}
