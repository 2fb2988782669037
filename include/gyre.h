/* Everything of gyre. Each header also stands on its own. */
#ifndef GYRE_H
#define GYRE_H

#include <gyre/addr.h>
#include <gyre/alloc.h>
#include <gyre/base.h>
#include <gyre/dgram.h>
#include <gyre/error.h>
#include <gyre/fd.h>
#include <gyre/listener.h>
#include <gyre/loop.h>
#include <gyre/op.h>
#include <gyre/pool.h>
#include <gyre/signal.h>
#include <gyre/sockopt.h>
#include <gyre/stream.h>
#include <gyre/timer.h>
#include <gyre/version.h>
#include <gyre/work.h>

#endif
