// An echo server on asio, built twice: on epoll, and on io_uring.
//
// Sessions read with async_read_some() and answer with async_write(), as the echo examples of asio
// do, in one thread and without locks (concurrency hint 1). A session's buffer takes the largest
// message; memory that no byte has touched yet costs nothing.

#include <asio.hpp>

extern "C" {
#include "echo/common.h"
}

#include <csignal>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <sys/socket.h>

namespace
{

constexpr std::size_t buffer_size = 64 * 1024;

class session : public std::enable_shared_from_this<session>
{
  public:
    explicit session(asio::ip::tcp::socket socket)
        : socket_(std::move(socket)), data_(new char[buffer_size])
    {
    }

    void read()
    {
        auto self = shared_from_this();
        socket_.async_read_some(asio::buffer(data_.get(), buffer_size),
                                [this, self](std::error_code error, std::size_t len) {
                                    if (!error) {
                                        write(len);
                                    }
                                });
    }

  private:
    void write(std::size_t len)
    {
        auto self = shared_from_this();
        asio::async_write(socket_, asio::buffer(data_.get(), len),
                          [this, self](std::error_code error, std::size_t) {
                              if (!error) {
                                  read();
                              }
                          });
    }

    asio::ip::tcp::socket socket_;
    std::unique_ptr<char[]> data_;
};

void accept_next(asio::ip::tcp::acceptor &acceptor)
{
    acceptor.async_accept([&acceptor](std::error_code error, asio::ip::tcp::socket socket) {
        if (error == asio::error::operation_aborted) {
            return;
        }
        if (!error) {
            std::make_shared<session>(std::move(socket))->read();
        }
        accept_next(acceptor);
    });
}

} // namespace

int main(int argc, char **argv)
{
    echo_options options;

    echo_parse_options(argc, argv, "Echo on asio.", &options);
    echo_raise_fd_limit();
    const int fd = echo_listen(&options, 0);

    asio::io_context context(1);
    asio::ip::tcp::acceptor acceptor(context, asio::ip::tcp::v4(), fd);
    asio::signal_set signals(context, SIGTERM, SIGINT);

    signals.async_wait([&context](std::error_code, int) { context.stop(); });
    accept_next(acceptor);
#ifdef ASIO_HAS_IO_URING_AS_DEFAULT
    echo_announce(fd, "asio uring");
#else
    echo_announce(fd, "asio epoll");
#endif
    context.run();
    return EXIT_SUCCESS;
}
