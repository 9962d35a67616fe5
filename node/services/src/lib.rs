//! Services and EndpointSlices to desired map contents: a pure plan.
